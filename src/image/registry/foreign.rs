//! Layers that no registry may give away (media types `nondistributable` and `foreign`): the manifest says where they are.

use reqwest::header::RANGE;
use reqwest::{Response, Url};

use super::client::{Settings, from_offset};
use super::error::RegistryError;
use super::http::{Redirects, client, without_secrets};
use super::settings::Host;
use super::words::printable;

/// Host and port of an address, as shown in errors.
pub(super) fn address(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| Host::of_url(&url));
    host.map_or_else(|| printable(url, 100), |host| host.to_string())
}

/// The response carrying what is at `url`, and how many bytes at its start are before `offset`. Nobody is told who we are.
pub(super) async fn get(
    url: &str,
    offset: u64,
    any_http: bool,
    settings: &Settings,
) -> Result<(Response, u64), RegistryError> {
    let registry = address(url);
    let parsed = Url::parse(url).ok().and_then(|url| Host::of_url(&url).map(|host| (url, host)));
    let allowed = |url: &Url| url.scheme() == "https" || (any_http && url.scheme() == "http");
    let Some((url, host)) = parsed.filter(|(url, _)| allowed(url)) else {
        return Err(RegistryError::Protocol {
            registry,
            reason: "a manifest gives it as the place of a layer, without https".to_owned(),
        });
    };
    let mut request = client(&host, settings, Redirects::Follow)?.get(url);
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
    }
    let response = request.send().await.map_err(|error| RegistryError::classify(&registry, error))?;
    match response.status() {
        status if status.is_success() => from_offset(response, offset, &registry),
        status => Err(RegistryError::Status {
            url: without_secrets(response.url()),
            registry,
            status: status.as_u16(),
            message: String::new(),
        }),
    }
}
