# elixir cluster_test.exs: a test with two nodes, as `mix test` would run it.
ExUnit.start()

defmodule ClusterTest do
  use ExUnit.Case

  test "a second node joins" do
    {:ok, _} = Node.start(:tester, :shortnames)
    {:ok, peer, name} = :peer.start(%{name: :second, wait_boot: 60_000})
    assert Node.list() == [name]
    {:ok, names} = :net_adm.names()
    assert names |> Enum.map(&elem(&1, 0)) |> Enum.sort() == [~c"second", ~c"tester"]
    :peer.stop(peer)
  end
end
