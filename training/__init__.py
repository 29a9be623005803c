"""Data, training and evaluation of adapters: LoRAs that teach a small model the job of a memory agent.

Texts with slots (`texts/`) are composed into whole conversations (`compose`), which the product itself then lives
through while a recorder dictates the calls (`recorder`); what main context held is what a LoRA learns (`train`), which
becomes a GGUF (`export`). `make adapter` runs all of it.
"""
