# The node alone: docker build -t filmroom .
# An S3 with archive tiers, to try restores on: docker build --target emulator -t filmroom-emulator .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p filmroom && cp target/release/filmroom /filmroom

FROM rust:1.95-bookworm AS build-emulator
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p filmroom-emulator && cp target/release/filmroom-emulator /filmroom-emulator

FROM debian:bookworm-slim AS emulator
RUN useradd --system --create-home --home-dir /var/lib/emulator emulator
COPY --from=build-emulator /filmroom-emulator /usr/local/bin/filmroom-emulator
USER emulator
WORKDIR /var/lib/emulator
VOLUME /var/lib/emulator
EXPOSE 9000
STOPSIGNAL SIGTERM
ENTRYPOINT ["filmroom-emulator"]
CMD ["--listen", "0.0.0.0:9000", "--data", "/var/lib/emulator", "--access-key", "filmroom", "--secret-key", "filmroom-secret", "--bucket", "images", "--queue", "events"]

# The last one is what a build without a target makes.
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
