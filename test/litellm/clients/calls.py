"""The calls of the real OpenAI clients, one command a line.

A command is {"call": name, "client": {...}, "args": {...}}; the answer is
{"ok": value} or {"error": {...}}, one line as well. One process serves a whole
test: importing the client takes longer than most calls.
"""

import asyncio
import hashlib
import inspect
import io
import json
import sys
import time

import httpx
import openai

HELLO = [{"role": "user", "content": "Say hello."}]
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f64540"
    "0000000049454e44ae426082"
)


def client(kind, base_url, api_key, api_version=None, timeout=60, asynchronous=False):
    """An OpenAI client for a LiteLLM proxy, Azure's v1 surface, or Azure's dated one."""
    options = {"api_key": api_key, "max_retries": 0, "timeout": timeout}
    if kind == "azure":
        make = openai.AsyncAzureOpenAI if asynchronous else openai.AzureOpenAI
        return make(azure_endpoint=base_url, api_version=api_version, **options)
    make = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    return make(base_url=base_url, websocket_base_url=base_url.replace("http", "ws", 1), **options)


def owner(model):
    """How LiteLLM is told whose files and batches are meant. Without it, it takes any deployment of the provider."""
    return {"x-litellm-model": model} if model else None


def digest(data):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def filler(size):
    """size bytes that do not compress to nothing and differ from block to block."""
    block = hashlib.sha256(b"entra-sidecar").digest() * 32
    return b"".join(bytes([i & 255]) + block[1:] for i in range(size // len(block) + 1))[:size]


def batch_lines(size):
    """At least size bytes of batch input, which LiteLLM checks line by line."""
    def line(i):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 4000}]}
        request = {"custom_id": f"request-{i}", "method": "POST", "url": "/chat/completions", "body": body}
        return json.dumps(request).encode() + b"\n"
    return b"".join(line(i) for i in range(size // len(line(0)) + 1))


# Chat


def chat(c, model):
    answer = c.chat.completions.create(model=model, messages=HELLO)
    return {"text": answer.choices[0].message.content, "finish_reason": answer.choices[0].finish_reason}


def chat_stream(c, model, stop_after=None):
    """A streamed chat, with the time of each piece. stop_after pieces the client goes away."""
    began, pieces, finish_reason = time.time(), [], None
    with c.chat.completions.create(model=model, messages=HELLO, stream=True) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                finish_reason = choice.finish_reason or finish_reason
                if choice.delta.content:
                    pieces.append({"text": choice.delta.content, "seconds": time.time() - began})
            if stop_after and len(pieces) >= stop_after:
                break
    return {
        "text": "".join(p["text"] for p in pieces),
        "seconds": [p["seconds"] for p in pieces],
        "finish_reason": finish_reason,
        "left_at": time.time(),
    }


def cut_stream(c, model):
    """What a user is left with when a streamed chat breaks off: the text so far, and the error, if there was one."""
    text, finish_reason, error = "", None, None
    try:
        for chunk in c.chat.completions.create(model=model, messages=HELLO, stream=True):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish_reason = choice.finish_reason or finish_reason
    except Exception as e:
        error = describe(e)
    return {"text": text, "finish_reason": finish_reason, "error": error}


def cut_responses(c, model):
    """The same for the Responses API, whose last event says how it ended."""
    text, last, error = "", None, None
    try:
        for event in c.responses.create(model=model, input="Say hello.", stream=True):
            last = event.type
            if last == "response.output_text.delta":
                text += event.delta
    except Exception as e:
        error = describe(e)
    return {"text": text, "finish_reason": last, "error": error}


def give_up(c, model, after):
    """A chat whose client waits `after` seconds for the answer and then goes away."""
    try:
        c.with_options(timeout=after).chat.completions.create(model=model, messages=HELLO)
    except openai.APITimeoutError:
        return {"left_at": time.time()}
    raise RuntimeError("the answer came in time")


def completion(c, model):
    return {"text": c.completions.create(model=model, prompt="Say hello.").choices[0].text}


def embeddings(c, model):
    return {"dimensions": len(c.embeddings.create(model=model, input="hello").data[0].embedding)}


# Responses


def responses_create(c, model):
    answer = c.responses.create(model=model, input="Say hello.")
    return {"id": answer.id, "text": answer.output_text}


def responses_stream(c, model):
    text, last = "", None
    for event in c.responses.create(model=model, input="Say hello.", stream=True):
        last = event.type
        if event.type == "response.output_text.delta":
            text += event.delta
    return {"text": text, "last": last}


def responses_get(c, model):
    answer = c.responses.create(model=model, input="Say hello.")
    return {"status": c.responses.retrieve(answer.id).status}


def responses_delete(c, model):
    answer = c.responses.create(model=model, input="Say hello.")
    c.responses.delete(answer.id)
    return {}


# Images and audio


def image(c, model):
    return {"images": len(c.images.generate(model=model, prompt="a lighthouse").data)}


def image_edit(c, model):
    answer = c.images.edit(model=model, prompt="at night", image=("a.png", io.BytesIO(PNG), "image/png"))
    return {"images": len(answer.data)}


def speech(c, model):
    return digest(c.audio.speech.create(model=model, voice="alloy", input="hello").content)


def transcription(c, model, size):
    audio = b"RIFF" + filler(size)
    return {"text": c.audio.transcriptions.create(model=model, file=("speech.wav", audio, "audio/wav")).text}


def video(c, model):
    created = c.videos.create(model=model, prompt="a lighthouse")
    got = c.videos.retrieve(created.id)
    return {"status": got.status, **digest(c.videos.download_content(created.id).content)}


# Files and what is made of them


def upload(c, model, data):
    file = ("batch.jsonl", data, "application/jsonl")
    return c.files.create(file=file, purpose="batch", extra_headers=owner(model))


def file_upload(c, size, model=None):
    data = batch_lines(size)
    return {"id": upload(c, model, data).id, **digest(data)}


def file_content(c, size, model=None):
    data = batch_lines(size)
    content = c.files.content(upload(c, model, data).id, extra_headers=owner(model)).content
    return {"same": content == data, **digest(content)}


def batches(c, model=None):
    batch = c.batches.create(
        input_file_id=upload(c, model, batch_lines(100)).id,
        endpoint="/chat/completions",
        completion_window="24h",
        extra_headers=owner(model),
    )
    listed = len(c.batches.list(extra_headers=owner(model)).data)
    return {"listed": listed, "status": c.batches.retrieve(batch.id, extra_headers=owner(model)).status}


def fine_tuning(c, **provider):
    return {"jobs": len(c.fine_tuning.jobs.list(extra_query=provider).data)}


def assistants(c, model):
    assistant = c.beta.assistants.create(model=model, name="helper")
    thread = c.beta.threads.create()
    c.beta.threads.messages.create(thread.id, role="user", content="Say hello.")
    run = c.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    return {"listed": len(c.beta.assistants.list().data), "run": run.object}


def vector_store(c, model=None):
    body = {"model": model} if model else None
    store = c.vector_stores.create(name="manuals", extra_body=body)
    found = c.vector_stores.search(store.id, query="lighthouse", extra_body=body)
    return {"object": store.object, "found": len(found.data)}


def vector_store_list(c, **provider):
    return {"stores": len(c.vector_stores.list(extra_query=provider).data)}


def containers(c, **provider):
    created = c.containers.create(name="workshop", extra_body=provider)
    return {"object": created.object, "listed": len(c.containers.list(extra_query=provider).data)}


# Realtime


async def realtime(c, model):
    """A realtime session: the types of the events that come for one answer.

    With asyncio, as LiteLLM does it: the client's threads read and write one
    TLS connection at the same time, and about one handshake in 150 hangs.
    """
    events = []
    async with c.realtime.connect(model=model) as session:
        while "response.done" not in events:
            event = await session.recv()
            events.append(event.type)
            if event.type == "error":
                raise RuntimeError(str(event.error))
            if event.type == "session.created":
                await session.response.create()
    return {"events": events}


# What the OpenAI client has no method for


def http(c, method, path, body=None):
    """One request to the server's root, with the client's key."""
    headers = {"Authorization": f"Bearer {c.api_key}"}
    url = httpx.URL(str(c.base_url)).join(path)
    answer = httpx.request(method, url, json=body, headers=headers, timeout=60, trust_env=False)
    answer.raise_for_status()
    return answer


def passthrough(c, method, path, body=None):
    answer = http(c, method, path, body)
    return {"status": answer.status_code, "body": answer.json()}


def rerank(c, model):
    body = {"model": model, "query": "lighthouse", "documents": ["a tower", "a boat"]}
    return {"results": len(http(c, "POST", "/v1/rerank", body).json()["results"])}


def messages(c, model):
    body = {"model": model, "max_tokens": 100, "messages": HELLO}
    return {"text": http(c, "POST", "/v1/messages", body).json()["content"][0]["text"]}


def ocr(c, model):
    document = {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0xLjQK"}
    pages = http(c, "POST", "/v1/ocr", {"model": model, "document": document}).json()["pages"]
    return {"pages": len(pages), "text": pages[0]["markdown"]}


def health(c):
    """LiteLLM's own check of every model that it knows."""
    found = http(c, "GET", "/health").json()
    return {
        "healthy": [e["model"] for e in found["healthy_endpoints"]],
        "unhealthy": {e["model"] + " " + e.get("api_base", ""): e.get("error", "") for e in found["unhealthy_endpoints"]},
    }


def describe(e):
    """An error as a user meets it."""
    response = getattr(e, "response", None)
    return {
        "type": type(e).__name__,
        "message": str(e),
        "status": getattr(e, "status_code", None) or getattr(response, "status_code", None),
        "body": response.text if isinstance(e, httpx.HTTPStatusError) else getattr(e, "body", None),
        "headers": dict(response.headers) if response is not None else {},
    }


CALLS = {name: f for name, f in globals().items() if inspect.isfunction(f)}


def run(call, client_options, arguments):
    f = CALLS[call]
    if inspect.iscoroutinefunction(f):
        return asyncio.run(f(client(asynchronous=True, **client_options), **arguments))
    return f(client(**client_options), **arguments)


def main():
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": run(command["call"], command["client"], command.get("args") or {})}
        except Exception as e:
            answer = {"error": describe(e)}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
