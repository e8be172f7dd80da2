"""The first message of a conversation. Apart from `task`, because `exec` has no task file."""

from __future__ import annotations

from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.folder import unwritable


def tell(conversation: Conversation, text: str) -> None:
    """Send the first message, with which the run's folder is made.

    Raises ConfigError if it cannot be made, NotRecorded if the disk is full or fails.
    """
    try:
        conversation.send_message(text)
    except OSError as error:
        raise unwritable(f"{conversation.run_dir} cannot be written", error) from None
