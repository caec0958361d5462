"""How words are read as an answer: which option, grade or confidence they mean, if any for sure."""
