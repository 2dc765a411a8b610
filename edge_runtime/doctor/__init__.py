"""Checks of ``edge-run doctor``: this machine and one model or bundle, each finding with a remedy.

Native libraries run in a child process, because a broken one crashes it; see `edge_runtime.doctor.probe`.
"""
