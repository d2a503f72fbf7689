"""The parts of a message's content: texts, images, sound. Source: API reference "Create chat completion"."""

from __future__ import annotations

import base64
import binascii

import attrs

from agenthub.canonical import JSON, Loss
from agenthub.dialects.base64_text import plain_base64
from agenthub.dialects.body import Fields
from agenthub.dialects.ledger import Noted
from agenthub.errors import InvalidRequest

_IMAGES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"))


@attrs.define
class PartParser:
    """Takes the parts of one content."""

    noted: Noted
    texts: list[str] = attrs.field(factory=list)
    images: list[str] = attrs.field(factory=list)
    images_first: bool = False
    _turns: int = 0
    _is_text: bool | None = None

    def parse(self, part: JSON) -> None:
        """Take the next part."""
        if not isinstance(part, dict):
            raise InvalidRequest("invalid message format", param="messages.content")
        match part.get("type"):
            case "text" | "refusal" as kind:
                self.texts.append(Fields("messages.content", dict(part)).text(kind))
            case "image_url" as kind:
                self._image(part.get("image_url"))
            case "input_audio" as kind if isinstance(part.get("input_audio"), dict):
                self.images.append(plain_base64(str(part["input_audio"].get("data") or "")))
            case other:
                self.noted.add(Loss(f"messages.content.{other}", rejected=True))
                return
        self.noted.note_members(f"messages.content.{kind}", part, "type", kind)
        self._turn(kind in ("text", "refusal"))

    def _turn(self, is_text: bool) -> None:
        self._turns += self._is_text not in (None, is_text)
        if self._turns == 1 and is_text:
            self.images_first = True
        self._is_text = is_text
        if self._turns == 2:
            self.noted.note("messages.content.order", True)

    def _image(self, value: JSON) -> None:
        url = value.get("url") if isinstance(value, dict) else value
        if not isinstance(url, str):
            raise InvalidRequest("invalid image input", param="messages.content.image_url")
        self.noted.note("messages.content.image_url", url)
        if url[:8].lower().startswith(("http://", "https://")):
            return
        if isinstance(value, dict) and (detail := value.get("detail")) is not None:
            self.noted.note("messages.content.image_url.detail", detail)
        self.images.append(plain_base64(url))


def render_media(data: str) -> dict[str, JSON]:
    """Return the part that an image or a sound of Ollama's is; its first bytes tell which. Raises InvalidRequest."""
    data = plain_base64(data)
    # 16 characters of base64 are 12 bytes.
    try:
        head = base64.b64decode(data[:16], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("illegal base64 data", param="messages.images") from None
    if sound := _sound(head):
        return {"type": "input_audio", "input_audio": {"data": data, "format": sound}}
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "image/webp"
    else:
        kind = next((kind for magic, kind in _IMAGES if head.startswith(magic)), "image/jpeg")
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def _sound(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    # An MP3 begins with a tag or with a frame: eleven bits set, then a version and a layer that are not reserved.
    is_frame = head[:1] == b"\xff" and len(head) > 1 and head[1] >= 0xE0 and head[1] & 0x18 != 0x08 and head[1] & 0x06
    return "mp3" if head.startswith(b"ID3") or is_frame else ""
