"""Large multimodal models behind LangChain: what each can do, how it is called, what it is sent and says."""
