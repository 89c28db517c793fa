"""Bloomz behind hayhooks: `BLOOMZ_STORE=my-store hayhooks run --pipelines-dir docs/examples/hayhooks`."""

import os
from typing import Any

from hayhooks import BasePipelineWrapper, get_last_user_message

from bloomz_haystack import Answerer


class PipelineWrapper(BasePipelineWrapper):
    """One store and its models, held from the start: hayhooks warms nothing itself."""

    def setup(self) -> None:
        """Open the store and load the models."""
        self.answerer = Answerer(os.environ["BLOOMZ_STORE"], hold_store=True)
        self.answerer.warm_up()
        self.pipeline = self.answerer.pipeline

    def run_api(
        self, query: str, top_k: int = 5, threshold: float | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Find the passages that answer a question, in French or in English."""
        return self.answerer.ask(query, top_k=top_k, threshold=threshold, filters=filters).as_json()

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        """Answer a chat with the best passages."""
        passages = self.answerer.ask(get_last_user_message(messages), top_k=3).passages
        return "\n\n".join(f"[{place}] {passage.content}" for place, passage in enumerate(passages, start=1))
