"""HTML reports as tests look at them."""

import base64
import hashlib
import re


def bare(page):
    """Leave out the script and the policy of every report, after checking that the policy lets nothing else in."""
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    page = page.replace(f"<script>{script}</script>\n", "")
    return page.replace(f'http-equiv="Content-Security-Policy" content="{policy}"', "")


def headings(page):
    """List the headings of the sections, each of which must be in the list of contents under its own id."""
    found = re.findall(r'<h2 id="([^"]+)">(.*?)<a class="up" href="#contents"', page, re.DOTALL)
    assert page.count("<h2") == len(found)
    assert re.findall(r'<li><a href="#([^"]+)">', page)[: len(found)] == [name for name, _ in found]
    assert len({name for name, _ in found}) == len(found)
    return [heading for _, heading in found]
