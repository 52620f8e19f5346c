# One image per service: docker build --build-arg SERVICE=Gateway (or Issuance, Ledger, Fleet, Standalone).
ARG DOTNET=10.0

FROM mcr.microsoft.com/dotnet/sdk:${DOTNET} AS build
ARG SERVICE
WORKDIR /source
COPY . .
# CI=true: only what the lock files name, and a reproducible build.
RUN test -n "${SERVICE}" && CI=true dotnet publish "src/Foundry.${SERVICE}" --configuration Release --output /app \
    && ln -s "Foundry.${SERVICE}" /app/service

FROM mcr.microsoft.com/dotnet/aspnet:${DOTNET}
# The state folder belongs to the image's unprivileged user; a new volume mounted here takes that over.
RUN mkdir /data && chown "${APP_UID}:${APP_UID}" /data && chmod 700 /data
ENV FOUNDRY_DATA=/data
VOLUME /data
COPY --from=build /app /app
USER ${APP_UID}
ENTRYPOINT ["/app/service"]
