//! nginx with `return 200`.

use std::fs;
use std::process::Command;

use super::{Exchange, Fixed, free_port};
use crate::Ground;

pub(super) fn start(ground: &Ground, exchange: &Exchange) -> Result<Fixed, String> {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| fs::exists(path).unwrap_or(false))
        .ok_or("not installed")?;
    let directory = ground.directory("nginx", crate::own_uid(), 0o755);
    let (socket, address) = (directory.join("nginx.sock"), free_port());
    let body = str::from_utf8(&exchange.body).unwrap();
    // One process, as the others are.
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;
         events {{ worker_connections 1024; }}
         http {{
             access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
             client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
             uwsgi_temp_path temp; scgi_temp_path temp;
             server {{
                 listen unix:{}; listen {address};
                 location / {{ default_type application/json; return 200 '{body}'; }}
             }}
         }}",
        socket.display()
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(&directory).arg("-c").arg(&file).args(["-e", "stderr"]);
    Ok(Fixed::start(ground, "nginx", (&socket, address), exchange, &mut command))
}
