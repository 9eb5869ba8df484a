//! Frames as the service writes them: with every field.
//!
//! AMQP lets a writer leave out the nulls at the end of a performative, and the library does.
//! Microsoft's Python client reads fields by their place without looking whether they are there.
//! A frame may grow by some bytes over what the client said is the largest; no client minds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose written frames have all their fields.
#[derive(Debug)]
pub(super) struct FullFrames<S> {
    stream: S,
    /// The beginning of a frame.
    begun: BytesMut,
    /// Whole frames on their way.
    out: BytesMut,
}

/// Of a frame: size, data offset, type, channel.
const HEADER: usize = 8;

/// How many fields a performative has, by its code (AMQP 1.0 part 2.7).
fn fields(code: u8) -> Option<u32> {
    Some(match code {
        0x10 => 10,
        0x11 => 8,
        0x12 => 14,
        0x13 | 0x14 => 11,
        0x15 => 6,
        0x16 => 3,
        0x17 | 0x18 => 1,
        _ => return None,
    })
}

impl<S> FullFrames<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, begun: BytesMut::new(), out: BytesMut::new() }
    }

    /// Moves whole frames from `begun` to `out`.
    fn fill_up(&mut self) {
        while self.begun.len() >= HEADER {
            let size = match &self.begun[..4] {
                // The protocol's header is not a frame.
                b"AMQP" => HEADER,
                size => size.iter().fold(0, |size, &byte| (size << 8) | usize::from(byte)),
            };
            if self.begun.len() < size.max(HEADER) {
                return;
            }
            let frame = self.begun.split_to(size.max(HEADER));
            if !write_full(&frame, &mut self.out) {
                self.out.extend_from_slice(&frame);
            }
        }
    }
}

/// Writes a performative's frame with all its fields. `false` if it has them or is none.
fn write_full(frame: &[u8], out: &mut BytesMut) -> bool {
    let [_, _, _, _, 2, 0, _, _, 0, 0x53, code, list, rest @ ..] = frame else { return false };
    let Some(wanted) = fields(*code) else { return false };
    // The list's size counts the bytes of its count as well.
    let (size, count, rest) = match (list, rest) {
        (0x45, rest) => (0, 0, rest),
        (0xc0, [size, count, rest @ ..]) => (usize::from(*size) - 1, u32::from(*count), rest),
        (0xd0, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            (size, u32::from_be_bytes([*e, *f, *g, *h]), rest)
        }
        _ => return false,
    };
    if count >= wanted {
        return false;
    }
    let (values, payload) = rest.split_at(size);
    let nulls = (wanted - count) as usize;
    let length = HEADER + 3 + 9 + size + nulls + payload.len();
    out.put_u32(length as u32);
    out.extend_from_slice(&frame[4..11]);
    out.put_u8(0xd0);
    out.put_u32((4 + size + nulls) as u32);
    out.put_u32(wanted);
    out.extend_from_slice(values);
    out.put_bytes(0x40, nulls);
    out.extend_from_slice(payload);
    true
}

impl<S: AsyncWrite + Unpin> FullFrames<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FullFrames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        self.begun.extend_from_slice(bytes);
        self.fill_up();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FullFrames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}
