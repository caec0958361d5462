"""Which navigator a run has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.navigators.local_passes import PatchesNavigator, SlideNavigator
from agent.navigators.search import SearchNavigator
from agent.run.records import Settings

if TYPE_CHECKING:
    from agent.graph.context import Navigator


def navigator_for(settings: Settings) -> Navigator:
    """Who decides where to look."""
    if settings.navigator == "chat" and settings.mode == "agent":
        from agent.navigators.chat import ChatNavigator

        return ChatNavigator(settings.profile)
    if settings.navigator == "chat":
        from agent.navigators.chat_passes import PassNavigator, patches_of

        return PassNavigator(settings.mode, patches_of(settings))
    if settings.mode == "patches":
        return PatchesNavigator(settings.patches)
    return SlideNavigator() if settings.mode == "slide" else SearchNavigator()
