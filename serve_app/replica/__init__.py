"""The replica process: Ray's LLM server, with admission, receipts and response headers around vLLM."""
