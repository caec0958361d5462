"""The small tokenizer and language model of `mini`, pretrained before any slide is seen."""
