"""One question from start to end: options, request, models opened, run, votes; `agent.ask` lives here."""
