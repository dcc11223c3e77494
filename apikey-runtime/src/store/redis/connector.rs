//! Connecting to the primary, and to no other server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisError, Value, from_redis_value,
};

use super::error::RedisFailure;
use crate::error::StoreError;

/// How long a connection may take, with all that is asked on it before its first call.
const CONNECT: Duration = Duration::from_secs(1);

/// How often one node of a cluster may name another.
const HOPS: usize = 3;

/// The first release whose scripts can say that they only read.
const OLDEST: u32 = 7;

const CONNECTING: &str = "connecting to the server";

/// KeyNames one run of one server. A server that starts again may have lost what it had acknowledged,
/// so what was read before from it, or from another, cannot be taken for the same history.
pub(super) type Incarnation = Arc<[u8]>;

/// The address of the server, and the credentials for it.
pub(super) struct Connector {
    info: ConnectionInfo,
    /// A key of the store: in a cluster, its slot tells the node.
    key: String,
}

impl Connector {
    pub(super) fn new(url: &str, key: String) -> Result<Self, StoreError> {
        let invalid = |_: RedisError| {
            StoreError::InvalidArgument(
                "the URL of the Redis store cannot be used; write \
                 `redis://user:password@host:6379/0` (`rediss://` needs a TLS feature of the crate \
                 `redis`)"
                    .to_owned(),
            )
        };
        let info = url.into_connection_info().map_err(invalid)?;
        // For pushes: the end of a connection is one.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Client::open(info.clone()).map_err(invalid)?;
        if !info.addr().is_supported() {
            return Err(invalid(
                (redis::ErrorKind::InvalidClientConfig, "no TLS").into(),
            ));
        }
        Ok(Self { info, key })
    }

    /// A connection to the primary that has the store's keys.
    pub(super) async fn connect(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Incarnation), RedisFailure> {
        let late =
            || RedisFailure::timed_out(format!("{CONNECTING}: no answer within {CONNECT:?}"));
        tokio::time::timeout(CONNECT, self.find_primary(&config))
            .await
            .map_err(|_elapsed| late())?
    }

    async fn find_primary(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Incarnation), RedisFailure> {
        let mut info = self.info.clone();
        for _ in 0..HOPS {
            let mut connection = self.enter(info.clone(), config).await?;
            let mut asking = Pipeline::new();
            asking.cmd("EXISTS").arg(&self.key).cmd("ROLE");
            asking.cmd("INFO").arg("server");
            let asked = connection.send_packed_commands(&asking, 0, 3).await;
            let values = asked.map_err(|error| self.failed(error))?;
            let [exists, role, server] = <[Value; 3]>::try_from(values).map_err(|_values| {
                RedisFailure::unavailable(format!("{CONNECTING}: answers are missing"))
            })?;
            if let Err(error) = exists.extract_error() {
                let Some(other) = other_node(&info, &error) else {
                    return Err(self.failed(error));
                };
                info = info.set_addr(other);
                continue;
            }
            check_primary(role)?;
            return Ok((connection, incarnation(server)?));
        }
        Err(RedisFailure::unavailable(
            "the nodes of the cluster name each other as the one that has the keys",
        ))
    }

    /// A connection to the server of the URL, whatever it is.
    pub(super) async fn enter_any(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisFailure> {
        self.enter(self.info.clone(), config).await
    }

    async fn enter(
        &self,
        info: ConnectionInfo,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisFailure> {
        let config = config.clone().set_connection_timeout(Some(CONNECT));
        let client = Client::open(info).map_err(|error| self.failed(error))?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: RedisError) -> RedisFailure {
        if error.kind() == redis::ErrorKind::RESP3NotSupported {
            return too_old();
        }
        RedisFailure::of(CONNECTING, error).without(self.info.redis_settings().password())
    }
}

/// Returns the node that has the key according to `error`.
fn other_node(info: &ConnectionInfo, error: &RedisError) -> Option<ConnectionAddr> {
    if error.code() != Some("MOVED") {
        return None;
    }
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let port = port.parse().ok()?;
    match info.addr() {
        // A node that does not know its own name leaves it out.
        ConnectionAddr::Tcp(asked, _) if host.is_empty() => {
            Some(ConnectionAddr::Tcp(asked.clone(), port))
        }
        ConnectionAddr::Tcp(..) => Some(ConnectionAddr::Tcp(host.to_owned(), port)),
        ConnectionAddr::TcpTls {
            host: asked,
            insecure,
            tls_params,
            ..
        } => Some(ConnectionAddr::TcpTls {
            host: if host.is_empty() { asked } else { host }.to_owned(),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        }),
        _ => None,
    }
}

/// Whether `role`, the answer to ROLE, is a primary's.
pub(super) fn check_primary(role: Value) -> Result<(), RedisFailure> {
    let role = role
        .extract_error()
        .map_err(|error| RedisFailure::of("asking the server for its role", error))?;
    let name = match role.as_sequence().and_then(<[Value]>::first) {
        Some(Value::BulkString(name)) => name.as_slice(),
        Some(Value::SimpleString(name)) => name.as_bytes(),
        _ => b"",
    };
    if name == b"master" {
        return Ok(());
    }
    Err(RedisFailure::unavailable(
        "the server is not the primary, and a replica may not know of a revocation; let the URL lead to \
         the primary",
    ))
}

/// Returns the run of the server that `info` tells of. If the user may not ask for that, each
/// connection counts as a run.
fn incarnation(info: Value) -> Result<Incarnation, RedisFailure> {
    let info: String = match info.extract_error() {
        Ok(info) => from_redis_value(info).unwrap_or_default(),
        Err(_) => String::new(),
    };
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    if let Some(version) = field("redis_version") {
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        if major.is_none_or(|major: u32| major < OLDEST) {
            return Err(too_old());
        }
    }
    match field("run_id") {
        Some(run) if run.len() >= RUN => Ok(run.as_bytes()[..RUN].into()),
        _ => random::<RUN>().map(|bits| bits.as_slice().into()),
    }
}

/// How many bytes tell runs apart.
pub(super) const RUN: usize = 16;

/// Random bytes of the system's.
pub(super) fn random<const N: usize>() -> Result<[u8; N], RedisFailure> {
    let mut bits = [0; N];
    SysRng.try_fill_bytes(&mut bits).map_err(|error| {
        RedisFailure::unavailable(format!("the system's random generator failed: {error}"))
    })?;
    Ok(bits)
}

fn too_old() -> RedisFailure {
    RedisFailure::invalid("the server is older than Redis 7; take Redis 7.0 or newer, or Valkey")
}

impl fmt::Debug for Connector {
    /// Without the user and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.info.addr().to_string())
            .field("database", &self.info.redis_settings().db())
            .finish_non_exhaustive()
    }
}
