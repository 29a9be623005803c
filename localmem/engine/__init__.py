"""The engine: tokens in, tokens out. The only importer of llama_cpp; knows no agent, no memory, no schema."""
