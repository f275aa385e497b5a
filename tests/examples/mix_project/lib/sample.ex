defmodule Sample do
  @moduledoc "Counts on every node that there is."

  @doc "How many processes each node has: `%{node => count}`."
  def census do
    nodes = [Node.self() | Node.list()]
    {counts, []} = :rpc.multicall(nodes, :erlang, :system_info, [:process_count])
    nodes |> Enum.zip(counts) |> Map.new()
  end
end
