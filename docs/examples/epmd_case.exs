# EpmdCase: each test has a private epmd, and starts peers on it. Copy this file to test/support, or require it in
# test_helper.exs. An epmd of gevent-epmd must be on PATH.
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

  @patience 60_000

  setup do
    {:ok, epmd: start_epmd()}
  end

  @doc "Starts an epmd at a free port, which ends with the test, and returns the port."
  def start_epmd do
    epmd = Enum.find(candidates(), &ours?/1) || raise "no epmd of gevent-epmd is on PATH"
    args = ~w(-loopback -relaxed_command_check -port 0 -port_file - -pid_exit #{System.pid()})
    running = Port.open({:spawn_executable, epmd}, [:binary, :exit_status, line: 80, args: args])

    port =
      receive do
        {^running, {:data, {:eol, line}}} -> String.to_integer(line)
        {^running, {:exit_status, status}} -> raise "epmd ended with status #{status}"
      after
        @patience -> raise "epmd does not start"
      end

    on_exit(fn -> System.cmd(epmd, ["-port", "#{port}", "-kill"], stderr_to_stdout: true) end)
    port
  end

  # The VM puts the folder with C's epmd before everything else on PATH.
  defp candidates do
    for folder <- String.split(System.get_env("PATH", ""), ":"),
        epmd = Path.join(folder, "epmd"),
        File.regular?(epmd),
        do: epmd
  end

  defp ours?(epmd) do
    {said, status} = System.cmd(epmd, ["--version"], stderr_to_stdout: true)
    status == 0 and String.starts_with?(said, "epmd ")
  end

  @doc "Starts a peer, which ends with the test. Returns what :peer.call takes, and the node."
  def start_peer(epmd, name, args \\ []) do
    own = ["-epmd_port", "#{epmd}", "-start_epmd", "false", "-setcookie", "biscuit", "-pa"]
    code = Enum.map(:code.get_path(), &to_charlist/1)

    {:ok, peer, node} =
      :peer.start_link(%{
        name: name,
        host: to_charlist("127.0.0.1"),
        longnames: true,
        connection: :standard_io,
        args: Enum.map(args ++ own, &to_charlist/1) ++ code
      })

    {peer, node}
  end
end
