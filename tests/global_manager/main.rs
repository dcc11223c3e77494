//! The manager of the whole process: a test binary of its own, because it is set once.

use actix_web::{get, web};
use apikey_runtime::{ApiKey, Error, api_key_required};
use apikey_test_support::http::Server;
use apikey_test_support::manager;

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

#[actix_web::test]
async fn an_installed_manager_serves_every_app_that_has_none_of_its_own() {
    let (installed, own) = (manager().await, manager().await);
    let key = installed.create("installed").await.unwrap();
    let own_key = own.create("own").await.unwrap();
    let server = Server::start(move |app| {
        let own = own.clone();
        app.service(who).service(
            web::scope("/own")
                .configure(|scope| own.init_app(scope))
                .service(who),
        );
    });
    server
        .get("/who", key.expose_secret())
        .await
        .refused(500, "no-manager");

    installed.install().unwrap();
    server
        .get("/who", key.expose_secret())
        .await
        .says("installed");
    server
        .get("/who", own_key.expose_secret())
        .await
        .refused(401, "invalid-key");
    server
        .get("/own/who", own_key.expose_secret())
        .await
        .says("own");
    server
        .get("/own/who", key.expose_secret())
        .await
        .refused(401, "invalid-key");

    assert!(matches!(installed.install(), Err(Error::AlreadyInstalled)));
    assert!(matches!(
        manager().await.install(),
        Err(Error::AlreadyInstalled)
    ));
}
