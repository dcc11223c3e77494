//! The place of the portal, as its visitors see it.

use actix_web::dev::ServiceRequest;
use actix_web::{HttpMessage as _, HttpRequest};

use crate::brand::is_own_path;
use crate::forgery::Origin;

/// The place of the portal for its visitors: the path before each link, and the origin if it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortalLocation {
    /// Without a slash at the end; empty at the root.
    pub(crate) base: String,
    /// The origin of the public URL.
    pub(crate) origin: Option<Origin>,
}

impl PortalLocation {
    /// Returns the location of a portal that is mounted at `mount`. A proxy may serve it at another path, which the
    /// public URL has.
    pub(crate) fn new(mount: &str, public_url: Option<&str>) -> Result<Self, String> {
        let Some(url) = public_url else {
            return Ok(Self {
                base: own_path(mount)?,
                origin: None,
            });
        };
        let fault = || {
            format!(
                "the public URL `{}` is not an http or https URL without a query; write the URL at which visitors see \
                 the portal, such as `https://acme.example/account/api-keys`",
                url.escape_debug()
            )
        };
        let origin = Origin::of_url(url).ok_or_else(fault)?;
        let path = url
            .split_once("://")
            .and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]))
            .unwrap_or("");
        if path.contains(['?', '#']) {
            return Err(fault());
        }
        Ok(Self {
            base: own_path(path).map_err(|_invalid| fault())?,
            origin: Some(origin),
        })
    }
}

/// The beginning of a request's path is not one that links may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnsafeBase;

/// The length of a request's path up to the paths of the portal's pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MountLength(usize);

impl MountLength {
    /// Returns it for a request that the portal's scope has just taken.
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        let path = request.match_info();
        Self(path.as_str().len() - path.unprocessed().len())
    }
}

impl PortalLocation {
    /// Returns a text that portals with different places do not share.
    pub(crate) fn place(&self) -> String {
        let origin = self.origin.as_ref().map_or("", Origin::as_str);
        format!("{origin}{}", self.base)
    }

    /// Returns the path of the list.
    pub(crate) fn list(&self) -> &str {
        match &*self.base {
            "" => "/",
            base => base,
        }
    }

    /// Returns the location for a request, if scopes of the application around the portal move it from its mount path.
    /// A public URL says the location for all requests.
    ///
    /// # Errors
    ///
    /// Returns [`UnsafeBase`] if links that begin with the request's path could leave the origin.
    pub(crate) fn moved_to(
        &self,
        request: &ServiceRequest,
        MountLength(length): MountLength,
    ) -> Result<Option<Self>, UnsafeBase> {
        let mount = request.match_info().as_str().get(..length).unwrap_or("");
        let mount = mount.trim_end_matches('/');
        if self.origin.is_some() || mount == self.base {
            return Ok(None);
        }
        // As the request wrote it: an encoded slash is not decoded, so that both have the same number of parts.
        let path = request.uri().path();
        let mut ends = path.match_indices('/').map(|(at, _)| at);
        let end = ends.nth(mount.matches('/').count());
        let base = &path[..end.unwrap_or(path.len())];
        match is_own_path(base) {
            true => Ok(Some(Self {
                base: base.to_owned(),
                origin: None,
            })),
            false => Err(UnsafeBase),
        }
    }

    /// Returns the path and query of a request's page as visitors see them: a proxy may have changed the beginning.
    pub(crate) fn seen_by_visitors(&self, request: &HttpRequest) -> String {
        let mount = request.extensions().get::<MountLength>().copied();
        let mount =
            mount.and_then(|MountLength(length)| request.match_info().as_str().get(..length));
        let rest = mount.and_then(|mount| request.uri().path().strip_prefix(mount));
        let rest = rest.filter(|rest| *rest != "/");
        let mut seen = format!("{}{}", self.base, rest.unwrap_or(""));
        // At the root of an origin, `//host` would be another origin.
        if !is_own_path(&seen) {
            return self.list().to_owned();
        }
        if let Some(query) = request.uri().query() {
            seen.push('?');
            seen.push_str(query);
        }
        seen
    }
}

/// Returns a mount path without patterns, so that actix-web accepts it, and the fault of the mount path is answered.
pub(crate) fn plain_scope(mount: &str) -> String {
    let parts = mount.trim_end_matches('/').split('/').enumerate();
    let parts = parts.map(|(at, part)| match part.contains(['{', '}', '*']) {
        true => format!("{{mount_{at}}}"),
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns a path without a slash at its end.
fn own_path(path: &str) -> Result<String, String> {
    let trimmed = path.trim_end_matches('/');
    match trimmed.is_empty() || is_own_path(trimmed) && !trimmed.contains(['{', '}', '*']) {
        true => Ok(trimmed.to_owned()),
        false => Err(format!(
            "the mount path `{}` is not a plain path; write one such as `/account/api-keys`",
            path.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_the_path_that_visitors_see() {
        let base = |mount, url| PortalLocation::new(mount, url).map(|location| location.base);
        assert_eq!(base("/keys", None), Ok("/keys".to_owned()));
        assert_eq!(base("/keys/", None), Ok("/keys".to_owned()));
        assert_eq!(base("", None), Ok(String::new()));
        assert_eq!(
            base("/keys", Some("https://a.example/account/keys/")),
            Ok("/account/keys".to_owned())
        );
        assert_eq!(base("/keys", Some("https://a.example")), Ok(String::new()));
        for url in [
            "a.example/keys",
            "ftp://a",
            "https://a/keys?x",
            "https://u@a/keys",
            "https://",
            "https://a/b\\c",
        ] {
            assert!(base("/keys", Some(url)).is_err(), "{url}");
        }
        for mount in ["keys", "//keys", "/{a}", "/a b"] {
            assert!(base(mount, None).is_err(), "{mount}");
        }
    }
}
