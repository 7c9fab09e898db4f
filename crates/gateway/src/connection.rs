//! One connection of a client: HTTP/1.1 or HTTP/2, bounded in size and in patience. Every listener serves by this.
//!
//! A connection earns its place by requests. One on which none is under way is closed after `patience`: it may be silent,
//! begin a request and never end it, or trickle, in either protocol and before it is known which. So is one whose client
//! does not take what it is sent. HTTP/2 over plain text is spoken to who begins with it; nobody is upgraded to it.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Sleep;

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// A client to whom nothing else is under way takes at least this much of what is left for it in each `patience`.
const TAKEN_BYTES_MIN: u64 = 16 << 10;

/// Why a connection ended otherwise than in good order. None of it is the program's to mend.
pub type Ended = Box<dyn Error + Send + Sync>;

/// A request's body did not arrive within `patience`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body did not arrive in time")
    }
}

impl Error for TooSlow {}

/// Serves one connection with `answer` until the client ends it or, once `stopping` resolves, what is under way is
/// answered. Any TLS is already off `io`.
pub async fn serve<I, A, F, B>(io: I, answer: A, patience: Duration, stopping: impl Future<Output = ()>) -> Result<(), Ended>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Timely>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (under_way, watched) = (watch::Sender::new(0_usize), Arc::new(AtomicU64::new(0)));
    let idle = idle(under_way.subscribe(), Arc::clone(&watched), patience);
    let service = service_fn(move |request: Request<Incoming>| {
        let place = UnderWay::begin(&under_way);
        let answered = answer(request.map(|body| Timely::new(body, patience)));
        async move { Ok::<_, Infallible>(answered.await.map(|body| Held { body, _place: place })) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    let connection = builder.serve_connection(TokioIo::new(Drained::new(io, watched, patience)), service);
    tokio::pin!(connection, idle, stopping);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = idle.as_mut() => return Err(Box::new(TooSlow)),
        () = stopping => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = connection => ended,
        () = idle => Err(Box::new(TooSlow)),
    }
}

/// Resolves when no request has been under way for `patience`, and hardly any of what was left to send was taken.
async fn idle(mut under_way: watch::Receiver<usize>, written: Arc<AtomicU64>, patience: Duration) {
    loop {
        // The sender lives as long as the connection; without it there is nothing to wait for.
        if under_way.wait_for(|requests| *requests == 0).await.is_err() {
            return std::future::pending().await;
        }
        let before = written.load(Ordering::Relaxed);
        let busy = tokio::time::timeout(patience, under_way.wait_for(|requests| *requests > 0)).await.is_ok();
        if !busy && written.load(Ordering::Relaxed).saturating_sub(before) < TAKEN_BYTES_MIN {
            return;
        }
    }
}

/// One request that is under way, until its answer was handed over whole.
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn begin(requests: &watch::Sender<usize>) -> Self {
        requests.send_modify(|requests| *requests = requests.saturating_add(1));
        Self(requests.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests = requests.saturating_sub(1));
    }
}

/// An answer's body that keeps its request under way.
struct Held<B> {
    body: B,
    _place: UnderWay,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, which has to arrive whole within `patience`; otherwise it fails with [`TooSlow`].
#[derive(Debug)]
pub struct Timely {
    body: Incoming,
    patience: Duration,
    /// Begins with the first wait, so that a body that is there costs no timer.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    const fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, deadline: None }
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A transport that counts what is written, and fails when the other side takes nothing for `patience`.
struct Drained<I> {
    io: I,
    written: Arc<AtomicU64>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Drained<I> {
    const fn new(io: I, written: Arc<AtomicU64>, patience: Duration) -> Self {
        Self { io, written, patience, stalled: None }
    }

    /// What a write came to, or that there was no progress for too long.
    fn watch<T>(&mut self, progress: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take what it is sent")))
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Drained<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Drained<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.count(&written);
        this.watch(written, cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, parts);
        this.count(&written);
        this.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.watch(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.watch(shut, cx)
    }
}
