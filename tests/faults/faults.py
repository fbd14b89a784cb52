"""What may become of a request: each function is a fault for a rule of the proxy."""

import asyncio

from .proxy import Answer, error


async def lost_answer(exchange):
    """Applied, and nobody hears of it."""
    await exchange.forward()
    exchange.reset()


def late(seconds):
    """The sender is cut off; seconds later the request is applied all the same."""

    async def fault(exchange):
        await exchange.take()
        exchange.reset()

        async def apply():
            await asyncio.sleep(seconds)
            await exchange.forward()

        exchange.proxy.later(apply())

    return fault


def answers(status, code, message="the proxy says so", **headers):
    """Refused without being applied."""

    async def fault(exchange):
        await exchange.answer(error(status, code, message, **headers))

    return fault


slow_down = answers(503, "SlowDown", "Please reduce your request rate.")
internal_error = answers(500, "InternalError", "We encountered an internal error. Please try again.")
conflict = answers(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation.")
skewed = answers(403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large.")


async def error_after_applying(exchange):
    """Applied, and answered with a 500."""
    await exchange.forward()
    await exchange.answer(error(500, "InternalError"))


async def twice(exchange):
    """Applied twice, as by a proxy that repeats; the second answer is told: 412 for our own object, NoSuchUpload for our own completion."""
    await exchange.forward()
    await exchange.answer(await exchange.forward())


def no_such_upload_first(exchange):
    """Completed, and told that there is no such upload."""
    return _applied(exchange, error(404, "NoSuchUpload", "The specified upload does not exist."))


async def _applied(exchange, answer):
    await exchange.forward()
    await exchange.answer(answer)


def error_in_200(applied):
    """200 with an error as its body: S3 begins to answer a completion before it knows."""

    async def fault(exchange):
        if applied:
            await exchange.forward()
        await exchange.answer(Answer(200, [("Content-Type", "application/xml")], error(500, "InternalError").body))

    return fault


async def cut_while_sending(exchange):
    """The line is cut in the middle of the request's body, on both sides."""
    await exchange.forward(share=0.5)
    exchange.reset()


async def cut_while_answering(exchange):
    """Applied, and the line is cut in the middle of the answer."""
    answer = await exchange.forward()
    await exchange.answer(answer, share=0.5)


def slow(seconds):
    """Everything takes long."""

    async def fault(exchange):
        await asyncio.sleep(seconds * (0.5 + exchange.rng.random()))
        await exchange.answer(await exchange.forward(), pause=seconds)

    return fault


async def silent(exchange):
    """No answer, while the line stays open."""
    await exchange.take()
    await asyncio.sleep(600)


def refuse_parts(exchange):
    """The parts of this upload are refused, now and for ever."""
    return answers(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")(exchange)
