"""The server as a server: connections, recording, the edge cache, many clients, stopping."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from civitai_pipeline.sandbox import DEMO_VERSIONS, Fault, FaultRule, Sandbox, SandboxError, SandboxOptions, World

from .client import TIMEOUT_S, get, ids, item, page, pages


def test_a_connection_is_kept_alive_also_after_errors_and_bodies(server: Sandbox) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    connection.connect()
    kept = connection.sock
    for method, path, body in (
        ("GET", "/api/v1/images?limit=1", None),
        ("POST", "/api/v1/model-versions/910011", b"x" * 100),
        ("HEAD", "/api/v1/images?limit=1", None),
        ("GET", "/api/v1/models/abc", None),
        ("GET", "/api/v1/images?limit=3", None),
    ):
        connection.request(method, path, body)
        connection.getresponse().read()
        assert connection.sock is kept
    connection.close()


def test_requests_are_recorded_in_order(world: World) -> None:
    with Sandbox(world) as server:
        requests.get(f"{server.url}/api/v1/images?limit=1&x=&x=2", headers={"X-Test": "yes"}, timeout=TIMEOUT_S)
        get(server, "model-versions/1")
        first, second = server.requests
        assert (first.method, first.path, first.status) == ("GET", "/api/v1/images", 200)
        assert first.query == [("limit", "1"), ("x", ""), ("x", "2")]
        assert first.param("limit") == "1"
        assert first.param("cursor") is None
        assert first.headers["x-test"] == "yes"
        assert (second.path, second.status, second.fault) == ("/api/v1/model-versions/1", 404, None)
        server.forget_requests()
        assert server.requests == []


def test_the_edge_cache_serves_the_same_url_again() -> None:
    world = World.from_items([item(1)])
    with Sandbox(world, SandboxOptions(edge_cache_s=0.5)) as server:
        page(server, modelVersionId=910011)
        world.insert(item(2), 910011)
        stale = get(server, modelVersionId=910011)
        assert ids(stale.json()) == [1]
        assert stale.headers["CF-Cache-Status"] == "HIT"
        assert sorted(ids(page(server, modelVersionId=910011, limit=99))) == [1, 2]
        time.sleep(0.55)
        assert sorted(ids(page(server, modelVersionId=910011))) == [1, 2]


def test_latency(world: World) -> None:
    with Sandbox(world, SandboxOptions(latency_s=0.2)) as server:
        began = time.monotonic()
        page(server, limit=1)
        assert time.monotonic() - began >= 0.2


def test_many_clients_while_the_world_changes() -> None:
    world = World.synthetic(seed=9, images=600)
    expected = world.image_ids(DEMO_VERSIONS[0])
    with Sandbox(world) as server:
        done = threading.Event()

        def change() -> None:
            while not done.is_set():
                world.update_stats(world.add_images(DEMO_VERSIONS[0], 1)[0], like=1)
                time.sleep(0.005)

        changing = threading.Thread(target=change)
        changing.start()
        try:
            with ThreadPoolExecutor(8) as pool:
                walks = list(
                    pool.map(
                        lambda limit: ids(
                            *pages(server, modelVersionId=DEMO_VERSIONS[0], sort="Oldest", limit=limit, type="image")
                        ),
                        (20, 25, 30, 35, 40, 45, 50, 200),
                    )
                )
        finally:
            done.set()
            changing.join()
        for walk in walks:
            assert walk[: len(expected)] == expected
            assert len(set(walk)) == len(walk)
        assert len(server.requests) == len({id(request) for request in server.requests})
        assert all(request.status == 200 for request in server.requests)


def test_stopping_is_quick_even_in_the_middle(world: World) -> None:
    server = Sandbox(world).start()
    server.faults.set([FaultRule(Fault("stall", seconds=60))])
    failed = threading.Event()

    def ask() -> None:
        try:
            get(server)
        except requests.exceptions.ConnectionError:
            failed.set()

    asking = threading.Thread(target=ask)
    asking.start()
    while not server.requests:
        time.sleep(0.01)
    began = time.monotonic()
    server.stop()
    server.stop()
    asking.join(2)
    assert failed.is_set()
    assert time.monotonic() - began < 1
    with pytest.raises(requests.exceptions.ConnectionError):
        get(server)


def test_stopping_closes_idle_connections(world: World) -> None:
    server = Sandbox(world).start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"OPTIONS /api/v1/images HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        server.stop()
        assert connection.recv(1) == b""


def test_it_starts_again_on_its_port(world: World) -> None:
    server = Sandbox(world).start()
    url = server.url
    server.stop()
    server.start()
    assert server.url == url
    assert get(server, limit=1).status_code == 200
    server.stop()


def test_a_taken_port_is_named(server: Sandbox) -> None:
    with pytest.raises(SandboxError, match=f"port {server.port} is taken"):
        Sandbox(server.world, port=server.port).start()


def test_it_is_fast_enough_for_benchmarks(server: Sandbox) -> None:
    page(server, modelVersionId=DEMO_VERSIONS[0], limit=200, withMeta="true")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    began = time.monotonic()
    for offset in range(0, 600, 20):
        connection.request(
            "GET", f"/api/v1/images?modelVersionId={DEMO_VERSIONS[0]}&limit=200&withMeta=true&cursor={offset}"
        )
        connection.getresponse().read()
    connection.close()
    # Usually several times that; the margin is for a busy machine.
    assert 30 * 200 / (time.monotonic() - began) > 10_000
