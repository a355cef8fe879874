"""ffprobe reads our clip: H.264 in MP4, of the size, rate and length that we say."""

from __future__ import annotations

import json

import pytest

from jointnet_cli.scene.orbit import write_orbit


def test_the_clip(program, panorama, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    said = write_orbit(tmp_path / "orbit.mp4", panorama, seconds=0.5, fps=12, width=96)
    flags = ["-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json"]
    found = json.loads(program("ffprobe", *flags, tmp_path / "orbit.mp4"))
    (stream,) = found["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert (stream["width"], stream["height"]) == (said["width"], said["height"])
    assert int(stream["nb_read_frames"]) == said["frames"] == 6
    assert stream["r_frame_rate"] == "12/1"
    assert float(found["format"]["duration"]) == pytest.approx(0.5, abs=0.05)
    assert "mp4" in found["format"]["format_name"]
