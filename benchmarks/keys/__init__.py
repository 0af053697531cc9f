"""Are the router's token ids the replica's? Real prompts, read by the router, and as vLLM reports them over HTTP.

texts      real conversations, and some of our own making, in the chat API's form
bodies     a conversation as a body of each API, in the many ways that clients write one
models     tiny models of three tokenizer and template families
engine     vLLM's own server, one model at a time
replica    what it says that it got for a prompt
router     what the router reads in the same body
result     where they differ
"""
