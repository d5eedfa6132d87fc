"""Numbers from a Trace: HybridGrad and its parts, and the likelihoods that come with them.

``score`` is the door; ``options`` its arguments, ``uncertainty`` its result. On the way: ``batch`` (layout),
``ways`` (short or plain), ``head`` (ParaGrad, ExGrad), ``hidden`` (SemGrad), ``tied`` (an ablation).
``segments`` scores parts of a response, ``sentences`` finds them, ``combining`` makes them one again.
"""
