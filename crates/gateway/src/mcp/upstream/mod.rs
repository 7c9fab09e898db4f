//! MCP tool servers, as a client of them.
