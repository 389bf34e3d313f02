"""The paper's studies on its own corpus, IMDb, with the replies that Llama-2-70b-chat gave its authors."""
