"""Which media a router reads, and what they make of a prompt's ids."""

from typing import Any

import pytest

from serve_app.prompt.media import Placeholder, has_unread_media, with_contents

HERE = "data:image/png;base64,AAAA"
THERE = "http://host/image.png"


def request(*parts: Any) -> dict[str, Any]:
    """A chat in which a user sends these, after some text."""
    content = [{"type": "text", "text": "x"}, *parts]
    return {"messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": HERE}},
        {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AAAA"}},
        {"image_url": HERE},
        {"type": "input_image", "image_url": HERE, "detail": "auto"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "text", "text": THERE},
        {"type": "tool_use", "input": {"image_url": THERE}},
        7,
    ],
)
def test_images_sent_along_are_read(part: Any) -> None:
    """In every API's form; what only mentions a URL is text."""
    assert not has_unread_media(request(part))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": THERE}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": " data:x"}},
        {"type": "image_url", "image_url": None, "uuid": "known"},
        {"image_url": THERE},
        {"type": "input_image", "image_url": THERE},
        {"type": "image", "source": {"type": "url", "url": THERE}},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": THERE}}]},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"video_url": "data:video/mp4;base64,AAAA"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "prompt_embeds", "data": "AAAA"},
    ],
)
def test_other_media_are_not(part: Any) -> None:
    """Behind a URL or a path, or not an image."""
    assert has_unread_media(request(part))


def test_a_tools_output_is_looked_into() -> None:
    """As the responses API writes it."""
    for output in ({"image_url": THERE}, [{"type": "input_image", "image_url": THERE}]):
        assert has_unread_media({"input": [{"type": "function_call_output", "output": output}]})


@pytest.mark.parametrize("name", ["media_io_kwargs", "mm_processor_kwargs"])
def test_images_processed_in_a_clients_own_way_are_not_read(name: str) -> None:
    """It may ask for any size."""
    assert has_unread_media(request() | {name: {"size": {"longest_edge": 10**6}}})
    assert not has_unread_media(request() | {name: None})


@pytest.mark.parametrize("content", [None, "text", 7, [], {}, [[]]])
def test_nothing_is_unread_in_nothing(content: object) -> None:
    """Whatever is wrong with it is vLLM's to say."""
    assert not has_unread_media({"messages": content, "input": content})


def test_a_placeholder_becomes_its_content() -> None:
    """And nothing else changes, the number of tokens least of all."""
    ids = [5, 9, 9, 9, 6, 9, 7]
    one = with_contents(ids, [Placeholder("one", 1, 3), Placeholder("two", 5, 1)])
    assert (one[0], one[4], one[6], len(one)) == (5, 6, 7, 7)
    assert one[1] == one[3] != one[2]
    assert one == with_contents(ids, [Placeholder("two", 5, 1), Placeholder("one", 1, 3)])
    other = with_contents(ids, [Placeholder("other", 1, 3), Placeholder("two", 5, 1)])
    assert [place for place in range(7) if one[place] != other[place]] == [1, 2, 3]
    assert all(0 <= each < 2**32 for each in one + other)
    assert with_contents(ids, []) == ids
