//! Where a declared name may lead: not to what answers to whoever is near, which is how a name is turned against its user.
//!
//! A tool server is inside the house more often than not, so private addresses are reached. This machine is reached only
//! where the declaration says so, as `localhost` or by its address; what hands out a host's own credentials, or names no
//! single host, never. A name is looked at after it was resolved, and the connection goes to exactly the addresses that were
//! looked at, so it cannot mean one thing when it is checked and another when it is used.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bailiwick_core::address::{is_public, may_lead_to, meant};
use hyper_util::client::legacy::connect::dns::Name;

/// Which addresses a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// Of a name that the bundle holds: all but those that no tool server may be at.
    House,
    /// Of a name that somebody else chose: public ones.
    Public,
}

impl Within {
    fn may(self, name: &str, address: IpAddr) -> bool {
        match self {
            Self::House if is_localhost(name) => address.is_loopback(),
            Self::House => !address.is_loopback() && may_lead_to(address),
            Self::Public => is_public(address) && may_lead_to(address),
        }
    }
}

/// Resolves names as `R` does, to addresses that may be reached.
#[derive(Clone, Debug)]
pub(super) struct Reachable<R>(pub(super) R, pub(super) Within);

impl<R> tower::Service<Name> for Reachable<R>
where
    R: tower::Service<Name, Error = io::Error>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send + 'static,
{
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let text = name.as_str().to_owned();
        let (resolved, within) = (self.0.call(name), self.1);
        Box::pin(async move {
            let (found, others): (Vec<_>, Vec<_>) = resolved.await?.partition(|address| within.may(&text, meant(address.ip())));
            match others.first() {
                Some(other) if found.is_empty() => {
                    let said = format!("`{text}` leads to {}, where nothing may be that is reached so", other.ip());
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, said))
                }
                _ => Ok(found.into_iter()),
            }
        })
    }
}

/// Whether this is the name of this machine.
pub(super) fn is_localhost(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;

    use super::*;

    /// Answers each question with the next of its addresses.
    #[derive(Clone)]
    struct Turning(Arc<Mutex<VecDeque<IpAddr>>>);

    impl tower::Service<Name> for Turning {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let address = self.0.lock().unwrap().pop_front().unwrap();
            std::future::ready(Ok(vec![SocketAddr::new(address, 0)].into_iter()))
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_or_to_metadata_is_not_connected_to_whenever_it_begins_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for (within, host, addresses, last) in [
            (Within::House, "crm.acme.example", vec!["127.0.0.1"], "leads to 127.0.0.1"),
            (Within::House, "crm.acme.example", vec!["::ffff:127.0.0.1"], "leads to ::ffff:127.0.0.1"),
            (Within::House, "crm.acme.example", vec!["169.254.169.254"], "leads to 169.254.169.254"),
            (Within::House, "crm.acme.example", vec!["64:ff9b::169.254.169.254"], "leads to 64:ff9b::a9fe:a9fe"),
            // Looked at once as one address, used as another: each look is the one that is used.
            (Within::House, "crm.acme.example", vec!["127.0.0.1", "::1", "0.0.0.0"], "leads to 0.0.0.0"),
            (Within::House, "localhost", vec!["10.0.0.1"], "leads to 10.0.0.1"),
            (Within::Public, "hooks.example", vec!["10.0.0.1", "127.0.0.1"], "leads to 127.0.0.1"),
            (Within::Public, "hooks.example", vec!["::ffff:192.168.0.1", "fd00::1"], "leads to fd00::1"),
            (Within::Public, "localhost", vec!["127.0.0.1"], "leads to 127.0.0.1"),
        ] {
            let turns = addresses.len();
            let addresses = addresses.into_iter().map(|address| address.parse().unwrap()).collect();
            let connector = HttpConnector::new_with_resolver(Reachable(Turning(Arc::new(Mutex::new(addresses))), within));
            let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
            let mut said = String::new();
            for _ in 0..turns {
                let uri = format!("http://{host}:{port}/mcp").parse().unwrap();
                said = super::super::http::causes(&client.get(uri).await.unwrap_err());
            }
            assert!(said.contains(last), "{said}");
        }
        let connector = HttpConnector::new_with_resolver(Reachable(
            Turning(Arc::new(Mutex::new(VecDeque::from([[127, 0, 0, 1].into()])))),
            Within::House,
        ));
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let asked = tokio::spawn(client.get(format!("http://localhost:{port}/mcp").parse().unwrap()));
        listener.accept().await.unwrap();
        asked.abort();
    }
}
