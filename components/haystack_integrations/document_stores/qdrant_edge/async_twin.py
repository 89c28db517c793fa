"""The asynchronous twin of a blocking method: the same work, in a thread, so that an event loop goes on."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def async_twin(
    method: Callable[Concatenate[Owner, Parameters], Result],
) -> Callable[Concatenate[Owner, Parameters], Coroutine[Any, Any, Result]]:
    """Make `method_async` from `method`, with the same parameters and result.

    :param method: a blocking method.
    :returns: a coroutine method that runs it in a thread.
    """

    @wraps(method)
    async def twin(self: Owner, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    twin.__name__ = f"{method.__name__}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = f"Do what `{method.__name__}` does, in a thread."
    return twin
