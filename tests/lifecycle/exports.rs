//! Exports of the audit log: with bounded memory, and as a response.

use std::sync::Arc;

use actix_web::{Responder, get, web};
use apikey_runtime::audit::AuditFormat;
use apikey_runtime::{ApiKeyManager, Error, api_key_required};
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, Fault, GateStore, RecordsOnly};
use apikey_test_support::{manager_on, patient_manager};

use crate::managers;

#[get("/audit/{format}")]
#[api_key_required(scope = "audit:read")]
async fn audit(manager: web::Data<ApiKeyManager>, format: web::Path<String>) -> impl Responder {
    let format = match format.as_str() {
        "csv" => AuditFormat::Csv,
        "spreadsheet" => AuditFormat::SpreadsheetCsv,
        _ => AuditFormat::JsonLines,
    };
    manager.audit().owner("acme").export(format)
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(web::Data::new(manager.clone())).service(audit);
    })
}

/// 250 entries with hostile labels: three pages.
async fn fill(manager: &ApiKeyManager) {
    for number in 0..250 {
        let label = format!("=cmd|' /C calc'!A{number}, \"{number}\"");
        manager
            .create(label)
            .owner("acme")
            .actor("=1+1")
            .await
            .unwrap();
    }
}

#[actix_web::test]
async fn an_export_is_sent_as_a_file_with_all_entries() {
    for (fleet, manager) in managers().await {
        fill(&manager).await;
        let reader = manager.create("r").scopes(["audit:read"]).await.unwrap();
        let server = serve(&manager);
        let secret = reader.expose_secret();
        let csv = server.get("/audit/csv", secret).await;
        assert_eq!(csv.status, 200, "{csv:?}");
        let kind = csv.header("content-type");
        assert_eq!(kind, Some("text/csv; charset=utf-8; header=present"));
        let file = csv.header("content-disposition");
        assert_eq!(file, Some("attachment; filename=\"audit.csv\""));
        assert_eq!(csv.header("cache-control"), Some("no-store"));
        let rows = csv.text();
        assert_eq!(rows.matches("\r\n").count(), 251, "{}", fleet.name);
        assert!(rows.starts_with("position,at,action,"));
        assert!(rows.contains(",=1+1,code,"), "{rows}");
        let rows = server.get("/audit/spreadsheet", secret).await.text();
        assert_eq!(rows.matches(",\"'=1+1\",").count(), 250);
        let lines = server.get("/audit/json", secret).await.text();
        let mut positions = Vec::new();
        for line in lines.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(entry["owner"], "acme");
            positions.push(entry["position"].as_str().unwrap().to_owned());
        }
        assert_eq!(positions.len(), 250);
        assert!(positions.is_sorted_by(|one, next| one > next));
        // Control: the route is guarded.
        assert_eq!(server.get("/audit/csv", None).await.status, 401);
    }
}

/// A page is read when the one before it was taken.
#[actix_web::test]
async fn an_export_holds_one_page() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    fill(&manager).await;
    let mut export = manager.audit().page_size(1_000).export(AuditFormat::Csv);
    for (pages, rows) in [(1, 101), (2, 100), (3, 50)] {
        let text = export.next().await.unwrap().unwrap();
        assert_eq!(text.matches("\r\n").count(), rows);
        assert_eq!(store.count(Call::ReadAudit), pages);
    }
    assert!(export.next().await.is_none() && export.next().await.is_none());
    assert_eq!(store.count(Call::ReadAudit), 3);
}

#[actix_web::test]
async fn an_export_that_fails_ends_with_the_error_and_a_response_does_not_look_complete() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    fill(&manager).await;
    let mut export = manager.audit().export(AuditFormat::JsonLines);
    assert!(export.next().await.unwrap().is_ok());
    store.fail(Call::ReadAudit, Fault::Unavailable);
    let failed = export.next().await.unwrap();
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert!(export.next().await.is_none());
    let without = manager_on(Arc::new(RecordsOnly::default())).await;
    let mut export = without.audit().export(AuditFormat::Csv);
    let failed = export.next().await.unwrap();
    assert!(matches!(failed, Err(Error::Unsupported(_))), "{failed:?}");
    // Over HTTP, the last chunk is missing.
    let reader = manager.create("r").scopes(["audit:read"]).await.unwrap();
    let server = serve(&manager);
    let mut client = server.connect().await;
    let authorization = format!("Bearer {}", reader.expose_secret());
    let headers = [("Authorization", authorization.as_str())];
    let request = apikey_test_support::http::get_request("/audit/csv", &headers);
    client.send(request).await;
    assert!(client.try_answer().await.is_none());
}

/// Without entries, CSV has its header.
#[actix_web::test]
async fn an_export_of_nothing() {
    for (_fleet, manager) in managers().await {
        let mut csv = manager.audit().export(AuditFormat::Csv);
        let header = csv.next().await.unwrap().unwrap();
        assert_eq!(header.matches("\r\n").count(), 1);
        assert!(csv.next().await.is_none());
        assert!(
            manager
                .audit()
                .export(AuditFormat::JsonLines)
                .next()
                .await
                .is_none()
        );
    }
}
