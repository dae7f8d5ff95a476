"""The policy that runs on vLLM: ``parameters`` (no vLLM needed), ``policy`` (ours), ``worker`` (inside the engine)."""
