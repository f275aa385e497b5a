# EpmdCase: each test has a private epmd, and starts peers on it. Copy this file to test/support, or require it in
# test_helper.exs. An epmd of gevent-epmd must be on PATH. For OTP 25 and later.
#
#     defmodule ClusterTest do
#       use EpmdCase, async: true
#
#       test "two peers find each other", %{epmd: epmd} do
#         {one, _} = EpmdCase.start_peer(epmd, :one)
#         {_, two} = EpmdCase.start_peer(epmd, :two)
#         assert :peer.call(one, :net_adm, :ping, [two]) == :pong
#       end
#     end
#
# A VM reads ERL_EPMD_PORT only when it starts, so the tests' own VM cannot be moved to a private epmd. That is why the
# peers are asked through :peer.call, over their standard input and output, and not over distribution.
defmodule EpmdCase do
  use ExUnit.CaseTemplate

  setup do
    {:ok, epmd: start_epmd()}
  end

  @doc "Starts an epmd at a free port, which ends with the test, and returns the port."
  def start_epmd do
    epmd = Enum.find(candidates(), &ours?/1) || raise "no epmd of gevent-epmd is on PATH"
    file = Path.join(System.tmp_dir!(), "epmd-#{System.pid()}-#{System.unique_integer([:positive])}")
    # It ends with this VM, even if nobody can stop it any more.
    private = ~w(-daemon -loopback -relaxed_command_check -port 0 -pid_exit #{System.pid()} -port_file)

    case run(epmd, private ++ [file]) do
      {_, 0} ->
        port = file |> File.read!() |> String.trim()
        on_exit(fn -> run(epmd, ["-port", port, "-kill"]) end)
        String.to_integer(port)

      {said, status} ->
        raise "#{epmd} ended with status #{status}: #{said}"
    end
  end

  # The VM puts the folder with C's epmd before everything else on PATH.
  defp candidates do
    for folder <- String.split(System.get_env("PATH", ""), ":"),
        epmd = Path.join(folder, "epmd"),
        File.regular?(epmd),
        do: epmd
  end

  defp ours?(epmd) do
    {said, status} = run(epmd, ["--version"])
    status == 0 and String.starts_with?(said, "epmd ")
  end

  defp run(epmd, options), do: System.cmd(epmd, options, stderr_to_stdout: true)

  @doc "Starts a peer, which ends with the test. Returns what :peer.call takes, and the node."
  def start_peer(epmd, name, args \\ []) do
    own = ["-start_epmd", "false", "-setcookie", "biscuit", "-pa"]
    code = Enum.map(:code.get_path(), &to_charlist/1)

    {:ok, peer, node} =
      :peer.start_link(%{
        name: name,
        host: to_charlist("127.0.0.1"),
        longnames: true,
        connection: :standard_io,
        wait_boot: 60_000,
        env: [{to_charlist("ERL_EPMD_PORT"), Integer.to_charlist(epmd)}],
        args: Enum.map(args ++ own, &to_charlist/1) ++ code
      })

    {peer, node}
  end
end
