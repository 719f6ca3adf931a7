"""The routes, with an engine that needs no networks."""

import io
import json
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from n2f_jax.mesh.glb import read_glb
from n2f_jax.reconstruction.head_file import KEYS, load_parameters
from n2f_jax.serving.answers import MESH_KEYS, format_of
from n2f_jax.serving.app import make_app
from n2f_jax.serving.problems import Problem

from .fakes import FAILS, HAS_NO_NUMBERS, FakeEngine, make_service, png


class Running:
    """A service behind a client."""

    def __init__(self, model, **limits):
        self.engine = FakeEngine(model)
        self.service = make_service(self.engine, **limits)
        self.client = TestClient(make_app(self.service), raise_server_exceptions=False)

    def __enter__(self):
        self.client.__enter__()
        while self.service.state == "starting":
            time.sleep(0.001)
        return self

    def __exit__(self, *error):
        self.client.__exit__(*error)

    def post(self, body, **options):
        return self.client.post("/v1/heads", content=body, **options)


@pytest.fixture(scope="module")
def running(open_head):
    with Running(open_head, max_bytes=100_000, max_pixels=10_000) as running:
        yield running


def problem(answer, status):
    """Its detail, which is one line."""
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status and content["title"]
    assert content["detail"] and "\n" not in content["detail"] and len(content["detail"]) <= 500
    return content["detail"]


def test_json(running):
    answer = running.post(png(200))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    heads = answer.json()["heads"]
    assert len(heads) == 2
    assert set(heads[0]) == (set(KEYS) - set(MESH_KEYS)) | {"doubtful"}
    assert heads[0]["image_size"] == [9, 12] and heads[0]["doubtful"] is False
    assert None not in heads[0]["translation"]
    assert "NaN" not in answer.text


def test_json_with_the_mesh_and_without_a_face(running, open_head):
    (head,) = running.post(png(), params={"mesh": "true"}).json()["heads"]
    np.testing.assert_allclose(head["vertices"], open_head.v_template, atol=1e-7)
    np.testing.assert_array_equal(head["faces"], open_head.faces)
    assert running.post(png(5)).json() == {"heads": []}


def test_npz_is_the_head_file(running, tmp_path):
    answer = running.post(png(200), headers={"Accept": "application/x-npz"})
    assert answer.headers["content-type"] == "application/x-npz"
    (tmp_path / "head.npz").write_bytes(answer.content)
    found = load_parameters(tmp_path / "head.npz")
    assert set(found) == set(KEYS) and found["image_size"].tolist() == [9, 12]


def test_glb_is_the_mesh(running, open_head):
    answer = running.post(png(), params={"format": "glb"}, headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "model/gltf-binary"
    vertices, _ = read_glb(answer.content)
    np.testing.assert_allclose(vertices[: len(open_head.v_template)], open_head.v_template, atol=1e-6)


def test_all_faces_in_an_archive(running):
    answer = running.post(png(200), params={"format": "npz", "face": "all"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["head.npz", "head_face2.npz"]
        assert archive.testzip() is None


def test_a_form(running):
    answer = running.client.post(
        "/v1/heads", files={"file": ("a.png", png(200), "image/png")}, data={"a": "b"}
    )
    assert len(answer.json()["heads"]) == 2
    two = [("file", ("a.png", png(), "image/png"))] * 2
    assert "2 files" in problem(running.client.post("/v1/heads", files=two), 400)
    assert "0 files" in problem(running.client.post("/v1/heads", files={"a": (None, "b")}), 400)


def test_exif_turns_and_tells_the_focal_length(running):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the left, to be undone
    exif.get_ifd(0x8769)[0xA405] = 28
    (head,) = running.post(png(exif=exif)).json()["heads"]
    assert head["image_size"] == [12, 9]
    assert running.engine.focals[-1].exif == pytest.approx(28 / 43.2666 * 15, rel=1e-3)
    running.post(png(exif=exif), params={"focal": "17.5"})
    assert running.engine.focals[-1].given == 17.5


@pytest.mark.parametrize(
    ("options", "status", "detail"),
    [
        ({"body": b""}, 400, "empty"),
        ({"body": b"no image at all"}, 400, "not an image"),
        ({"body": png()[:45]}, 400, "truncated or damaged"),
        ({"body": bytes(100_001)}, 413, "100001 bytes are more than the 100000"),
        ({"body": iter([bytes(60_000)] * 2)}, 413, "longer than"),
        ({"body": png(size=(101, 100))}, 413, "100 × 101 pixels are more than 0.01 megapixels"),
        ({"headers": {"Content-Type": "application/json"}}, 415, "not application/json"),
        ({"headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "form"),
        ({"headers": {"Accept": "text/html"}}, 406, "format="),
        ({"params": {"format": "obj"}}, 400, "format: "),
        ({"params": {"focal": "-3"}}, 400, "focal: "),
        ({"params": {"focal": "nan"}}, 400, "focal: "),
        ({"params": {"focal": "x\ny"}}, 400, "focal: "),
        ({"params": {"mesh": "7"}}, 400, "mesh: "),
        ({"params": {"face": "3"}}, 400, "face: "),
        ({"body": png(5), "params": {"format": "glb"}}, 422, "no face"),
        ({"body": png(HAS_NO_NUMBERS)}, 500, "no numbers"),
        ({"body": png(FAILS)}, 500, "its log says"),
    ],
)
def test_what_goes_wrong_is_a_problem_in_one_line(running, options, status, detail):
    body = options.pop("body", png())
    assert detail in problem(running.post(body, **options), status)


def test_other_routes_are_problems_too(running):
    assert problem(running.client.get("/nowhere"), 404) == "Not Found"
    answer = running.client.get("/v1/heads")
    assert problem(answer, 405) and answer.headers["allow"] == "POST"
    assert "/v1/heads" in running.client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("model/gltf-binary;q=0.5, application/x-npz", "npz"),
        ("text/html, model/*;q=0.1", "glb"),
        ("application/json;q=0, model/gltf-binary", "glb"),
        ("application/json;q=x, */*;q=nan, application/octet-stream;q=1e-3", "npz"),
    ],
)
def test_the_header_accept(accept, form):
    assert format_of(None, accept) == form
    assert format_of("glb", accept) == "glb"
    with pytest.raises(Problem):
        format_of(None, "image/png")


def test_health_and_metrics(open_head):
    with Running(open_head) as running:
        health = running.client.get("/health")
        assert health.status_code == 200 and health.json()["status"] == "ready"
        running.post(png(200))
        running.post(b"x")
        text = running.client.get("/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert lines["n2f_accepted_total"] == "2.0" and lines["n2f_faces_total"] == "2.0"
        assert lines['n2f_answered_total{status="200"}'] == lines['n2f_answered_total{status="400"}'] == "1.0"
        assert lines["n2f_ready"] == "1.0" and lines["n2f_inside"] == lines["n2f_waiting"] == "0.0"
        assert lines["n2f_batch_size_count"] == "1.0" and lines["n2f_request_seconds_count"] == "2.0"
        running.service.refuse()
        assert running.client.get("/health").status_code == 503
        answer = running.post(png())
        assert "stopping" in problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0 and answer.headers["connection"] == "close"
        assert 'n2f_refused_total{status="503"} 1.0' in running.client.get("/metrics").text
        assert running.service.account() == "2 photographs were let in, 2 answered"


def test_a_trial_that_fails_lets_nothing_in(open_head):
    engine, said = FakeEngine(open_head, broken=True), []
    service = make_service(engine, said.append)
    with TestClient(make_app(service)) as client:
        while service.state == "starting":
            time.sleep(0.001)
        assert client.get("/health").json()["status"] == "failed"
        assert "could not be set up" in problem(client.post("/v1/heads", content=png()), 503)
    assert said == ["failed: no face"]


def in_threads(running, bodies):
    """Answers to requests that are sent at once."""
    answers = [None] * len(bodies)

    def send(i):
        answers[i] = running.post(bodies[i])

    threads = [threading.Thread(target=send, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    return answers, threads


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_too_many_at_once_are_told_to_come_again(open_head):
    with Running(open_head, max_inside=3, batch=2) as running:
        running.engine.go_on.clear()
        answers, threads = in_threads(running, [png()] * 3)
        wait_until(lambda: running.service._inside == 3)
        answer = running.post(png())
        assert "3 photographs are waiting" in problem(answer, 503)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert running.client.get("/health").status_code == 200
        running.engine.go_on.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 3
        assert running.post(png()).status_code == 200


def test_what_takes_too_long_is_let_go(open_head):
    with Running(open_head, seconds=2, batch=1) as running:
        running.engine.go_on.clear()
        answers, threads = in_threads(running, [png()] * 2)
        for thread in threads:
            thread.join()
        assert all("not ready within 2 s" in problem(answer, 504) for answer in answers)
        assert running.service.is_idle
        running.engine.go_on.set()
        assert running.post(png()).status_code == 200
        assert running.engine.batches == [1, 1]  # the one that waited was not computed


def test_requests_at_once_go_together_and_get_their_own_answers(open_head):
    with Running(open_head, batch=4, wait=0.5) as running:
        bodies = [png(level, (4, 5 + i)) for i, level in enumerate((100, 200, FAILS, 5))]
        answers, threads = in_threads(running, bodies)
        for thread in threads:
            thread.join()
        assert running.engine.batches[0] == 4
        assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
        found = [json.loads(answers[i].content)["heads"] for i in (0, 1, 3)]
        assert [len(heads) for heads in found] == [1, 2, 0]
        assert [heads[0]["image_size"] for heads in found[:2]] == [[4, 5], [4, 6]]
