"""These tests run on the real libraries, which the project does not depend on: `make integration` installs them.

Without its library a file is not collected. `make integration` names each file, which then must be: a library that
cannot be imported is a failure there, never a skip.
"""

import importlib.util

_LIBRARIES = ("audiocraft", "stable_audio_tools")

collect_ignore = [f"test_{library}.py" for library in _LIBRARIES if importlib.util.find_spec(library) is None]
