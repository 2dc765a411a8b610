"""``edge-run doctor``: what keeps this machine, or this bundle on it, from working, each with its remedy.

Whatever imports a native library runs in a child process, because a bad one crashes; see `edge_runtime.doctor.child`.
"""
