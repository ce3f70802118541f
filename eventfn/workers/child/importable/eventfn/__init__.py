"""What `import eventfn` finds inside an environment: a file that declares its functions can be imported to run them.

Nothing here does anything; the declarations were read long before (app.py, with the same signatures). Its folder's
parent comes last on a function's sys.path, so an eventfn among the function's own requirements wins.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])


class App:
    def __init__(self, **_tables: Any) -> None: ...

    def function(self, **_settings: Any) -> Callable[[Handler], Handler]:
        return lambda handler: handler

    def queue(self, name: str, **_settings: Any) -> None: ...


def on(type: str, **settings: Any) -> dict[str, Any]:  # noqa: A002 - as in eventfn.app
    return {"type": type, **settings}
