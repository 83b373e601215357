//! `serve_directory DIRECTORY`: an HTTP server on loopback (ranges, no cache) for benches. Prints its address first.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let files = tower_http::services::ServeDir::new(directory).with_buf_chunk_size(1 << 18);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().fallback_service(files)).await
}
