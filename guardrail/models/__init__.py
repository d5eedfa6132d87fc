"""A local causal language model: where its files come from, how it runs, the Trace it leaves.

Getting the files, which needs no torch: ``reference`` (a name) → ``sources`` (a folder) by ``builtin``,
``fetch``, ``convert`` (by ``gguf_reading``), ``hub``, ``store`` and ``checkpoint``. Opening them:
``loading``, ``placement``.

Running: ``local`` (the model people hold) → ``prompt``, ``sampling`` → ``running`` (generate, read) on a
``machine`` → ``trace``. What a run keeps for scoring: ``recorder``, ``outputs`` (of ``linears`` and
``attention``), ``kv_cache``; running its end again with gradients: ``replay``.
"""
