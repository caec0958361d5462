"""The language model that reads slide tokens: conversation, tokenizer, scoring of answers, packing."""
