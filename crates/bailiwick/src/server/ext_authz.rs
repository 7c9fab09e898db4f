//! The endpoint at which Envoy asks (gRPC), served by the listener's own HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::routing::post_service;
use bailiwick_gateway::authz::envoy::Envoy;
use bailiwick_gateway::authz::envoy::wire::{CheckRequest, CheckResponse};
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::Service;

/// The one method, as a path.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The endpoint.
pub(super) fn router(envoy: Arc<Envoy>) -> Router {
    Router::new().route(CHECK, post_service(Authorization(envoy)))
}

#[derive(Clone)]
struct Authorization(Arc<Envoy>);

/// One message in, one message out.
struct Check(Arc<Envoy>);

impl tonic::server::UnaryService<CheckRequest> for Check {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let envoy = Arc::clone(&self.0);
        Box::pin(async move { Ok(tonic::Response::new(envoy.check(request.into_inner()).await)) })
    }
}

impl Service<Request> for Authorization {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let check = Check(Arc::clone(&self.0));
        Box::pin(async move { Ok(Grpc::new(ProstCodec::<CheckResponse, CheckRequest>::default()).unary(check, request).await) })
    }
}
