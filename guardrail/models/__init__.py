"""A local causal language model: where its files come from, how it runs, the Trace it leaves.

``files`` turns a name into a checked folder of weights, and needs no torch; ``loading`` opens that.
``local`` holds the model that people use: it encodes prompts (``prompt``, ``chat_template``), generates or
reads (``generation``) and gives a ``trace``. ``replay`` keeps what scoring needs of a run, and computes the
end of that run again with gradients.
"""
