"""Numbers from a Trace: HybridGrad and its parts, and the likelihoods that come with them.

``score`` is the door; ``options`` its arguments, ``uncertainty`` its result. Behind it: ``batch_layout``,
``gradients`` (SemGrad, ParaGrad, ExGrad) and ``verification`` (whether the truncated backward holds).
``segments`` scores parts of a response and ``sentences`` finds them. ``semantic_scan`` chooses t*,
``semantic_tokens`` keeps it, ``paraphrases`` makes what is scanned. ``bulk`` scores files.
"""
