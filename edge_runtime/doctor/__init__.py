"""Checks of ``edge-run doctor``: this machine and one model or bundle, each finding with a remedy.

Native libraries are imported in a child process, because a broken one crashes; see `edge_runtime.doctor.child`.

Whatever imports a native library runs in a child process, because a bad one crashes; see `edge_runtime.doctor.child`.
"""
