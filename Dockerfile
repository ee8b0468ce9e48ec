# The node alone: docker build -t filmroom .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p filmroom && cp target/release/filmroom /filmroom

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/filmroom filmroom
COPY --from=build /filmroom /usr/local/bin/filmroom
USER filmroom
WORKDIR /var/lib/filmroom
VOLUME /var/lib/filmroom
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["filmroom"]
CMD ["serve"]
