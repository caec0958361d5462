"""The LangGraph graph of a run: its state, its nodes, and the loop that follows it to an answer."""
