"""Requests that strangers send to the server: forms, photographs, headers and questions, damaged at random."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from n2f_jax.serving.answers import format_of
from n2f_jax.serving.app import make_app
from n2f_jax.serving.problems import Problem
from n2f_jax.serving.requests import file_in_body, read_photograph
from tests.n2f_jax.serving.fakes import FakeEngine, make_service, png

from .limits import check, fuzzed
from .mutations import damaged

pytestmark = pytest.mark.timeout(3600)

FORM = "multipart/form-data; boundary=limit"
PIXELS = 10_000


def form(*parts):
    """Parts are (header, content)."""
    body = b"".join(b"--limit\r\n%s\r\n\r\n%s\r\n" % part for part in parts)
    return body + b"--limit--\r\n"


def image(kind, **options):
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def with_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    return image("JPEG", exif=exif)


FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"'
FIELD = b'Content-Disposition: form-data; name="a"'
FORMS = [form((FILE, png())), form((FIELD, b"b"), (FILE, b"\0\r\n--limi")), form((FIELD, b"c" * 300))]
PHOTOGRAPHS = [png(), with_exif(), image("WEBP"), image("GIF"), image("TIFF"), image("BMP")]
WRONG_FORMS = [
    b"",
    b"--limit",
    form(),
    form((FILE, b"")),
    form((b"", b"x")),
    form(*[(FILE, b"x")] * 2),
    form(*[(FIELD, b"x")] * 17),
    b"--limit\r\n" + b"a" * 100_000 + b": b\r\n\r\n",
    b"--limit\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
]


@pytest.mark.parametrize("number", range(len(WRONG_FORMS)))
def test_forms_without_one_file(number):
    with pytest.raises(Problem) as raised:
        check("form", lambda: file_in_body(FORM, WRONG_FORMS[number]), ())
    assert raised.value.status == 400 and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "kind",
    [
        "boundary",
        "boundary=",
        "boundary=" + "x" * 71,
        'boundary="',
        "charset=\xff; boundary=limit\r\nx",
        "=;=;",
    ],
)
def test_boundaries_that_are_none(kind):
    with pytest.raises(Problem):
        check("form", lambda: file_in_body(f"multipart/form-data; {kind}", FORMS[0]), ())


def test_sound_ones_are_read():
    assert file_in_body(FORM, FORMS[0]) == png()
    assert file_in_body(FORM, FORMS[1]) == b"\0\r\n--limi"
    for content in PHOTOGRAPHS:
        assert read_photograph(content, None, PIXELS).image.shape[2] == 3


@given(st.data())
@fuzzed
def test_damaged_forms(data):
    body = data.draw(damaged(FORMS + [one for one in WRONG_FORMS if 0 < len(one) < 2000]))
    kind = data.draw(damaged([FORM.encode()])).decode("latin-1")
    check("form", lambda: file_in_body(kind, body), Problem)


@given(st.data())
@fuzzed
def test_damaged_photographs(data):
    content = data.draw(damaged(PHOTOGRAPHS))
    check("sent photograph", lambda: read_photograph(content, None, PIXELS), Problem)


@given(st.data())
@fuzzed
def test_damaged_headers(data):
    accept = data.draw(damaged([b"application/json;q=0.5, model/*", b"*/*;q=1e-3"])).decode("latin-1")
    check("Accept", lambda: format_of(None, accept), Problem)


@pytest.fixture(scope="module")
def client(open_head):
    app = make_app(make_service(FakeEngine(open_head), max_pixels=PIXELS, max_bytes=1 << 20))
    with TestClient(app) as client:
        while client.get("/health").status_code != 200:
            pass
        yield client


@given(st.data())
@fuzzed
def test_damaged_requests(client, data):
    """Whatever comes, the answer is heads or a problem of the client's, in one line."""
    body = data.draw(damaged(FORMS + PHOTOGRAPHS))
    question = data.draw(damaged([b"format=npz&focal=700&mesh=1&face=all"])).decode("latin-1")
    headers = {
        name: data.draw(damaged([value]))
        for name, value in (
            (b"Content-Type", FORM.encode()),
            (b"Accept", b"model/gltf-binary;q=0.5, application/json"),
        )
    }

    def ask():
        answer = client.post("/v1/heads", params=question, content=body, headers=headers)
        assert answer.status_code < 500
        if answer.status_code != 200:
            raise Problem(answer.status_code, answer.json()["detail"])

    check("request", ask, Problem)
