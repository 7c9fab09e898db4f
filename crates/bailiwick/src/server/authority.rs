//! What gRPC's C core, and with it Python, C++ and Ruby, sends over a Unix socket as `:authority`: the socket's path with each slash as
//! `%2F`, which is no authority (RFC 3986 §3.2.2) and which our HTTP/2 refuses the whole request for.
//!
//! Nothing here looks at the authority: who asks is told by the kernel. So the `%` of the first one is read as `-`, which keeps its
//! length and, as it is the only one that such a client ever spells out, its place in the table of headers (RFC 7541 §2.3).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How such a header begins: a literal that goes into the table, with a name that is not compressed (RFC 7541 §6.2.1).
const NAME: &[u8] = b"\x40\x0a:authority";

/// A connection of which the first `:authority` is read so.
#[derive(Debug)]
pub(super) struct Mended<I> {
    io: I,
    done: bool,
}

impl<I> Mended<I> {
    pub(super) const fn new(io: I) -> Self {
        Self { io, done: false }
    }
}

/// Mends the first authority in what was read; says whether there was one.
fn mend(read: &mut [u8]) -> bool {
    let Some(at) = read.windows(NAME.len()).position(|window| window == NAME) else { return false };
    let Some((length, value)) = read.get_mut(at + NAME.len()..).and_then(<[u8]>::split_first_mut) else { return true };
    // The highest bit says that the value is compressed; then this is no such client. All ones says that more of the length follows.
    let length = usize::from(*length);
    if length < 0x7f {
        value.iter_mut().take(length).filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
    }
    true
}

impl<I: AsyncRead + Unpin> AsyncRead for Mended<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        if !self.done {
            self.done = buffer.filled_mut().get_mut(before..).is_some_and(mend);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Mended<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_percent_signs_of_the_authority_are_changed() {
        let mut read = b"100%\x40\x0a:authority\x0drun%2Fapi.sock%\x83".to_vec();
        assert!(mend(&mut read));
        assert_eq!(read, b"100%\x40\x0a:authority\x0drun-2Fapi.sock%\x83");
        for other in [&b"100%"[..], b"\x40\x0a:authority", b"\x40\x0a:authority\x8d%%", b"\x40\x0a:authority\x7f%%"] {
            let mut read = other.to_vec();
            mend(&mut read);
            assert_eq!(read, other);
        }
    }
}
