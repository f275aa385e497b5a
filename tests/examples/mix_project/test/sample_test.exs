defmodule SampleTest do
  use ExUnit.Case

  # A node that ends with the test that has started it.
  defp start_peer(name) do
    {:ok, peer, node} =
      :peer.start_link(%{
        name: name,
        host: ~c"127.0.0.1",
        longnames: true,
        wait_boot: 60_000,
        args: [~c"-setcookie", ~c"biscuit", ~c"-pa" | :code.get_path()]
      })

    {peer, node}
  end

  test "epmd knows this node" do
    {:ok, names} = :net_adm.names({127, 0, 0, 1})
    assert List.keymember?(names, ~c"sample", 0)
  end

  test "a peer joins, is counted, and leaves" do
    {peer, node} = start_peer(:peer)
    assert Node.list() == [node]
    assert Sample.census() |> Map.keys() |> Enum.sort() == Enum.sort([Node.self(), node])
    :ok = :peer.stop(peer)
    assert Node.ping(node) == :pang
  end

  test "two peers find each other" do
    {_, one} = start_peer(:one)
    {_, two} = start_peer(:two)
    assert :rpc.call(one, :net_adm, :ping, [two]) == :pong
  end
end
