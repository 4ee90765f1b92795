"""The engines: one contract, one module an engine, nothing imported before it is asked for."""
